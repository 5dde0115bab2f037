"""What a report says: findings, present, absent or uncertain."""
