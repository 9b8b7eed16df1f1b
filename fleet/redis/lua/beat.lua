-- ARGV: the node, what it says of itself, the number of its beat.
local name = 'n:' .. ARGV[11]
local beats, newest = string.match(redis.call('HGET', fleet, name) or '', '^(%d+) %d+ (%d+) ')
newest = math.max(number(newest) or 0, number(ARGV[13]) or 0)
redis.call('HSET', fleet, name,
	digits(tonumber(beats or '0') + 1) .. ' ' .. digits(now) .. ' ' .. digits(newest) .. ' ' .. ARGV[12])
return state()
