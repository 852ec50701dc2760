"""IMU recordings of loggers, phones, cars and cameras: which files they are, and what their columns mean."""

from xsearch.media.imu.imu import WINDOW_S, read, telemetry

__all__ = ["WINDOW_S", "read", "telemetry"]
