-- wake publishes a message of a key to all nodes that wait for its lease.
local function wake(channel, key, message)
	for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
		if string.sub(name, 1, 2) == 'w:' then
			redis.call('PUBLISH', channel .. string.sub(name, 3), #key .. ':' .. key .. message)
		end
	end
end
