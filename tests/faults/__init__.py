"""A small plant in which everything breaks: broker, cable, camera, disk, config, learner and agent."""
