-- ARGV: the generation after which to read, how many records at most.
return { state(), redis.call('XRANGE', log, '(' .. ARGV[4] .. '-0', '+', 'COUNT', ARGV[5]) }
