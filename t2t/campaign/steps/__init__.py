"""The steps of a round: functions on facts."""
