"""CT encoders, their classifier heads and calibration."""
