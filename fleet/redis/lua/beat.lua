-- ARGV: the node, what it says of itself.
local name = 'n:' .. ARGV[11]
local beats = string.match(redis.call('HGET', fleet, name) or '', '^(%d+) ') or '0'
redis.call('HSET', fleet, name, digits(tonumber(beats) + 1) .. ' ' .. digits(now) .. ' ' .. ARGV[12])
return state()
