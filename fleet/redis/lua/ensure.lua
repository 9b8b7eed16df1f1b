-- What each script begins with that returns the state of the log.
-- KEYS: the hash with the list of nodes, the stream. ARGV: an epoch and a stretch at random, the
-- length of the stream; a script's own begin with the fourth.
--
-- Numbers here are doubles: a generation stays below 2^53, and goes in and out as digits.
local fleet, log = KEYS[1], KEYS[2]

local function digits(number)
	return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- Another id of the server's replication says that it was started anew or is another one: it may
-- have lost its newest writes.
local run = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

local had = redis.call('HMGET', fleet, 'epoch', 'run', 'since', 'gen', 'first', 'length', 'mark')
local epoch, since, gen, first, mark = had[1], tonumber(had[3]), tonumber(had[4]), had[5], had[7]
local length = redis.call('XLEN', log)

-- A read of the first record costs its length, so its place is kept, and read anew where the stream
-- has another length than this left it with.
local function oldest()
	local record = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
	return record and string.match(record[1], '^%d+') or digits(gen)
end

-- last is the highest generation that is known of, 0 where there is none.
local function last()
	local highest = gen or 0
	if redis.call('EXISTS', log) == 1 then
		local info = redis.call('XINFO', 'STREAM', log)
		for i = 1, #info, 2 do
			if info[i] == 'last-generated-id' then
				highest = math.max(highest, tonumber(string.match(info[i + 1], '^%d+')))
			end
		end
	end
	return highest
end

local function append(generation, kind, data)
	local before = length
	local added = redis.pcall('XADD', log, 'MAXLEN', '~', ARGV[3], digits(generation) .. '-0', kind, data)
	if type(added) == 'table' and added.err then
		-- The stream has a record that the hash does not know of: somebody else's.
		generation = last() + 1
		redis.call('XADD', log, 'MAXLEN', '~', ARGV[3], digits(generation) .. '-0', kind, data)
	end
	gen, length = generation, redis.call('XLEN', log)
	if not first or before == 0 or length ~= before + 1 then
		first = oldest()
	end
	redis.call('HSET', fleet, 'gen', digits(gen), 'first', first, 'length', length)
end

local whole = epoch and since and gen and mark and length > 0
if not whole or had[2] ~= run then
	local generation = last()
	if generation == 0 then
		generation = now
	else
		-- Above all that was lost. Two terms that begin at the same place do not meet: of 2^31
		-- stretches they have got two.
		generation = generation + 4294967296 + tonumber(ARGV[2])
	end
	if generation >= 9007199254740992 - 4294967296 then
		return redis.error_reply('ERR the generations are used up: FLUSHALL, or another name')
	end
	if not whole then
		epoch = ARGV[1]
	end
	since, mark = now, digits(generation)
	redis.call('HSET', fleet, 'epoch', epoch, 'run', run, 'since', digits(since), 'mark', mark)
	append(generation, 'mark', '')
elseif not first or length ~= tonumber(had[6]) then
	first = oldest()
	redis.call('HSET', fleet, 'first', first, 'length', length)
end

local function state()
	return { epoch, digits(gen), first, mark, digits(since), digits(now) }
end
