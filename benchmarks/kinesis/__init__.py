"""What a record costs on Kinesis: msgbus beside raw aiobotocore and async-kinesis."""
