"""All that runs inside a step of a Dagster run or a tick of the sensor."""
