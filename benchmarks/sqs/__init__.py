"""What a message costs on SQS: msgbus beside the loops that people write by hand."""
