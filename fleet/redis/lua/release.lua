-- KEYS: the lease. ARGV: the token, what channels begin with, the key, how long the message stays
-- in milliseconds (0: not at all), the message.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
	return 0
end
wake(ARGV[2], ARGV[3], ARGV[5])
redis.call('DEL', KEYS[1])
if ARGV[4] ~= '0' then
	redis.call('HSET', KEYS[1], 'left', ARGV[5])
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
