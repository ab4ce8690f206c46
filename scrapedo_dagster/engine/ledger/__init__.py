"""The durable record of submissions and generations."""
