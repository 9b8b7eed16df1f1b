-- KEYS: the lease. ARGV: the token, the node, the message that was seen in its place ('' is none),
-- how long in milliseconds. Returns what it is now, the facts, the message.
local token, facts, left = unpack(redis.call('HMGET', KEYS[1], 'token', 'facts', 'left'))
if token == ARGV[1] then
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
	return { 'taken', facts, '' }
end
if token then
	redis.call('HSET', KEYS[1], 'w:' .. ARGV[2], '')
	-- One that does not end, or that somebody else has made for longer, would hold up all for ever.
	local left = redis.call('PTTL', KEYS[1])
	if left < 0 or left > tonumber(ARGV[4]) then
		redis.call('PEXPIRE', KEYS[1], ARGV[4])
	end
	return { 'held', facts, '' }
end
if (left or '') ~= ARGV[3] then
	return { 'free', '', left }
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'token', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 'taken', '', '' }
