"""A phase's stages, within the positions of the model that is trained."""

from __future__ import annotations

from components.shared.tasks.room import Room

from .settings import Settings


def fitting(settings: Settings, room: Room) -> Settings:
    """The settings without the tasks and levels of which most items are too long.

    A task of the phase stays where it fits in every stage that draws from the phase's.

    :raises InputError: less than half of a mixture would be left.
    """
    tasks = settings.tasks
    for stage in settings.stages:
        if stage.tasks is None:
            tasks, _ = room.fitting(tasks, stage.levels)
    stages = []
    for stage in settings.stages:
        own, levels = room.fitting(stage.tasks or tasks, stage.levels)
        stages.append(stage.model_copy(update={"tasks": stage.tasks and own, "levels": levels}))
    return settings.model_copy(update={"tasks": tasks, "stages": stages})
