"""What can be said of a pair or of runs beside training them: comparisons planned, advice before, differences after."""
