"""The LeRobotDataset v3.0 directory format: names and paths, writer, reader."""
