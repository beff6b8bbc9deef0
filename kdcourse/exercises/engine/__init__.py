"""What every exercise needs and none of them is: cases, running, comparing, diagnosing, records, what is shown."""
