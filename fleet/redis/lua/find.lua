-- KEYS: the record, the index. ARGV: how long the one may be, and what the other may take of
-- memory. What is larger is somebody else's.
local record, index = false, {}
if redis.call('STRLEN', KEYS[1]) <= tonumber(ARGV[1]) then
	record = redis.call('GET', KEYS[1])
end
local bytes = redis.call('MEMORY', 'USAGE', KEYS[2], 'SAMPLES', '0')
if bytes and bytes <= tonumber(ARGV[2]) then
	index = redis.call('HGETALL', KEYS[2])
end
return { record, index }
