"""Many runs: what is planned, where each stands, what they left behind."""
