"""Transforms between the robot and the network, one file each: numpy only."""
