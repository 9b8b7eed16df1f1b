-- KEYS: the hash with the list of nodes. ARGV: the node, its beats, when it was seen.
local value = redis.call('HGET', KEYS[1], 'n:' .. ARGV[1])
if not value then
	return 0
end
local beats, seen = string.match(value, '^(%d+) (%d+) ')
if (beats or '0') ~= ARGV[2] or (seen or '0') ~= ARGV[3] then
	return 0
end
return redis.call('HDEL', KEYS[1], 'n:' .. ARGV[1])
