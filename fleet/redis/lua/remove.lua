-- KEYS: the record, the index. ARGV: the variant, the record as it was seen.
local record = redis.call('GET', KEYS[1])
if record and record ~= ARGV[2] then
	return 0
end
redis.call('UNLINK', KEYS[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
