"""GPUs of one machine: each process sees the least busy one."""

from pipelines.local.processes.devices import Devices, visible


def test_processes_side_by_side_get_different_gpus_and_a_free_one_is_taken_again():
    devices = Devices(("0", "1"))
    with devices.least_busy() as first, devices.least_busy() as second:
        assert {first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
        with devices.least_busy() as third:
            assert third == first
    with devices.least_busy() as again:
        assert again["CUDA_VISIBLE_DEVICES"] == "0"


def test_one_gpu_or_none_needs_no_sharing():
    for names in ((), ("0",)):
        with Devices(names).least_busy() as environment:
            assert environment == {}


def test_the_environment_says_which_gpus_there_are():
    assert visible({"CUDA_VISIBLE_DEVICES": "2,GPU-7"}) == ("2", "GPU-7")
    assert visible({"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert visible({"CUDA_VISIBLE_DEVICES": "0,-1,1"}) == ("0",), "CUDA looks no further than a -1"
