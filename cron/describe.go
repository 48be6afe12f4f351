package cron
func (c *calendar) describe() string { return "" }
func (i *interval) describe() string { return "" }
func (o *once) describe() string { return "" }
