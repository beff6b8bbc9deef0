"""What runs where the answers run: it knows no exercise, and nothing outside trusts it."""
