"""What domains are made with: drawn digits, worse sensors, random numbers by row and place."""
