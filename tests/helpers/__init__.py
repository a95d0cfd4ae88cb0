"""What several tests share: made-up runs and cities, and what a run or a report must come out as."""
