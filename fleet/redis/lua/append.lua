-- ARGV: the record.
append(gen + 1, 'data', ARGV[4])
return { state(), redis.call('HGETALL', fleet) }
