-- KEYS: the record, the index. ARGV: the variant, the record, its row, how long in milliseconds,
-- how many rows at most, what the keys of the index's records begin with, and to replace a record
-- that as it was seen, '' for none.
local variant, ttl, most = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if ARGV[7] then
	local record = redis.call('GET', KEYS[1])
	-- The new one is there after a reply that was lost.
	if record and record ~= ARGV[7] and record ~= ARGV[2] then
		return 0
	end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
redis.call('HSET', KEYS[2], variant, string.format('%.0f ', now + ttl) .. ARGV[3])
if redis.call('PTTL', KEYS[2]) < ttl then
	redis.call('PEXPIRE', KEYS[2], ARGV[4])
end

-- The index does not grow with every variant that a client can think of: rows go that are over,
-- then those that end first, with their records.
if redis.call('HLEN', KEYS[2]) > most then
	local rows, live = redis.call('HGETALL', KEYS[2]), {}
	for i = 1, #rows, 2 do
		local ends = tonumber(string.match(rows[i + 1], '^%d+')) or 0
		if ends <= now then
			redis.call('HDEL', KEYS[2], rows[i])
		elseif rows[i] ~= variant then
			live[#live + 1] = { ends, rows[i] }
		end
	end
	table.sort(live, function(a, b) return a[1] < b[1] end)
	for i = 1, #live + 1 - most do
		redis.call('HDEL', KEYS[2], live[i][2])
		redis.call('UNLINK', ARGV[6] .. live[i][2])
	end
end
return 1
