-- ARGV: the record.
failed = append(gen + 1, 'data', ARGV[11])
if failed then
	return failed
end
return { state(), redis.call('HGETALL', fleet) }
