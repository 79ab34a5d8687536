"""From a genome to a score: the parents, the merged model in memory, its calibration, the items that scorer it."""
