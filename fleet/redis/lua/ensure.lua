-- What each script begins with that returns the state of the log.
-- KEYS: the hash with the list of nodes, the stream. ARGV: an epoch and a stretch at random, how
-- many records are kept, how many bytes of them; what the caller has: an epoch, a mark, a
-- generation, an id, its node, the number of its last beat. A script's own begin with the eleventh.
--
-- Numbers here are doubles: a generation stays below 2^53, and goes in and out as digits.
local fleet, log = KEYS[1], KEYS[2]
local limit = 9007199254740992

local function digits(number)
	return string.format('%.0f', number)
end

-- number reads what digits has written. What somebody else has written is nil.
local function number(text)
	local n = tonumber(text)
	if n and n >= 0 and n < limit and n == math.floor(n) then
		return n
	end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- Another id of the server's replication says that it was started anew or is another one: it may
-- have lost its newest writes.
local run = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')

-- foreign is the error of what somebody else has put into the keys.
local function foreign(what)
	return redis.error_reply('ERR the log ' .. what .. ': UNLINK ' .. log .. ' ' .. fleet .. ', or choose another name')
end

local had, length = redis.pcall('HMGET', fleet,
	'epoch', 'run', 'since', 'gen', 'first', 'length', 'mark', 'id', 'bytes', 'start'), redis.pcall('XLEN', log)
for _, reply in ipairs({ had, length }) do
	if type(reply) == 'table' and reply.err then
		return string.find(reply.err, 'WRONGTYPE') and foreign('is in keys of another type') or reply
	end
end
local epoch, since, gen, first, mark = had[1], number(had[3]), number(had[4]), number(had[5]), number(had[7])
local id = had[8] or ''
-- bytes is how many all records had that ever were in the log, start those before the first.
local bytes, start = number(had[9]), number(had[10])

-- overhead is about what Redis takes for a record beside its data.
local overhead = 64

-- read reads a record: its generation, its id, how many bytes there were before it, its length.
local function read(record)
	local fields = {}
	for i = 1, #record[2], 2 do
		fields[record[2][i]] = record[2][i + 1]
	end
	local name = fields['id'] or ''
	if #name > 32 then
		name = ''
	end
	return tonumber(string.match(record[1], '^%d+')), name, number(fields['at']), #(fields['data'] or '') + overhead
end

-- oldest reads the first record. That costs its length, so it is kept, and read anew where the
-- stream has another length than this left it with.
local function oldest()
	local record = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
	if not record then
		return gen, bytes
	end
	local generation, _, at = read(record)
	return generation, math.min(at or 0, bytes)
end

-- last is the highest generation that the stream knows of, 0 where there is none, and the newest
-- record.
local function last()
	local highest, newest = 0, nil
	if redis.call('EXISTS', log) == 1 then
		local info = redis.call('XINFO', 'STREAM', log)
		for i = 1, #info, 2 do
			if info[i] == 'last-generated-id' then
				highest = tonumber(string.match(info[i + 1], '^%d+'))
			elseif info[i] == 'last-entry' and info[i + 1] then
				newest = info[i + 1]
			end
		end
	end
	return highest, newest
end

-- over returns the generation below which records have to go where one of so many bytes comes, nil
-- where all may stay. It goes a sixteenth too far, so as not to have to every time.
local function over(more)
	local most, from, seen = tonumber(ARGV[4]), '-', 0
	if bytes + more - start <= most then
		return nil
	end
	for _ = 1, 256 do
		local records = redis.call('XRANGE', log, from, '+', 'COUNT', 16)
		for _, record in ipairs(records) do
			local generation, _, at = read(record)
			if at and bytes + more - at <= most - most / 16 then
				return generation
			end
			seen = generation + 1
		end
		if #records < 16 then
			break
		end
		from = '(' .. records[16][1]
	end
	return seen
end

local function append(generation, kind, data)
	if generation >= limit then
		return foreign('has used up its generations, or has a record that Larder cannot have written')
	end
	local before, size, own = length, #data + overhead, string.sub(ARGV[1], 1, 8)
	local cut = over(size)
	local function add(at)
		return redis.pcall('XADD', log, cut and 'MINID' or 'MAXLEN', '~', cut and digits(cut) or ARGV[3],
			digits(at) .. '-0', kind, data, 'id', own, 'at', digits(bytes))
	end
	local added = add(generation)
	if type(added) == 'table' and added.err then
		-- The stream has a record that the hash does not know of: somebody else's.
		generation = math.max(gen or 0, (last())) + 1
		if generation >= limit then
			return foreign('has a record that Larder cannot have written')
		end
		added = add(generation)
		if type(added) == 'table' and added.err then
			return added
		end
	end
	gen, id, bytes, length = generation, own, bytes + size, redis.call('XLEN', log)
	if not first or before == 0 or length ~= before + 1 then
		first, start = oldest()
	end
	redis.call('HSET', fleet, 'gen', digits(gen), 'id', id, 'bytes', digits(bytes),
		'first', digits(first), 'start', digits(start), 'length', length)
end

-- order is when an epoch began, by the number that its name begins with: no earlier than any that
-- its first caller knew of, whatever the clock says. Where it has none it is before all others.
local function order(name)
	return number(string.match(name, '^(%d+)%-')) or 0
end

-- lacks tells whether the log has not got what the caller has: it was put back to an older state.
local function lacks()
	local has = { mark = number(ARGV[6]), gen = number(ARGV[7]), id = ARGV[8] }
	if ARGV[5] ~= epoch and order(ARGV[5]) > order(epoch) then
		return true
	elseif ARGV[5] ~= epoch or not has.mark or not has.gen or has.mark < mark then
		return false
	elseif has.mark > mark then
		return true
	end
	local newest = string.match(redis.call('HGET', fleet, 'n:' .. ARGV[9]) or '', '^%d+ %d+ (%d+) ')
	if newest and tonumber(newest) < (number(ARGV[10]) or 0) then
		return true
	elseif has.gen < mark or has.gen < first then
		return false
	end
	local record = redis.call('XRANGE', log, digits(has.gen) .. '-0', digits(has.gen) .. '-0')[1]
	if not record then
		return has.gen ~= gen or has.id ~= id
	end
	local _, name = read(record)
	return name ~= has.id
end

-- counted is how many bytes there were up to the newest record, as it says itself.
local function counted(newest)
	local _, name, at, size = read(newest)
	return (at or bytes or 0) + size, name
end

-- changed looks at a stream that somebody else has added to, or taken from, or of which the hash
-- says what cannot be.
local function changed()
	local highest, newest = last()
	local name
	bytes, name = counted(newest)
	if highest > gen and highest < limit then
		gen, id = highest, name
	end
	first, start = oldest()
	redis.call('HSET', fleet, 'gen', digits(gen), 'id', id, 'bytes', digits(bytes),
		'first', digits(first), 'start', digits(start), 'length', length)
end

-- begin begins a term, in a new epoch or in the same. A term is above all that was lost. Two that
-- begin at the same place do not meet: of 2^31 stretches they have got two.
local function begin(anew)
	local highest, newest = last()
	local generation = math.max(gen or 0, highest)
	if generation == 0 then
		generation = now
	else
		generation = generation + 4294967296 + tonumber(ARGV[2])
	end
	if generation >= limit - 4294967296 then
		return foreign('has used up its generations, or has a record that Larder cannot have written')
	end
	if anew then
		local began = math.max(now, order(epoch or '') + 1, order(ARGV[5]) + 1)
		epoch = digits(math.min(began, limit - 1)) .. '-' .. string.sub(ARGV[1], 1, 8) -- caches keep a short text
	end
	if not bytes then
		bytes = newest and counted(newest) or 0
	end
	start = start or 0
	since, mark = now, generation
	redis.call('HSET', fleet, 'epoch', epoch, 'run', run, 'since', digits(since), 'mark', digits(mark))
	return append(generation, 'mark', '')
end

local whole, failed = epoch and since and gen and mark and mark <= gen and length > 0, nil
local sound = whole and first and first <= gen and bytes and start and start <= bytes and length == number(had[6])
if whole and not sound then
	changed()
end
-- A term that has not begun yet, by a clock that was set back, would be young for as long as that.
if not whole or had[2] ~= run or now < since then
	failed = begin(not whole)
elseif lacks() then
	failed = begin(true)
end
if failed then
	return failed
end

local function state()
	return { epoch, digits(gen), digits(first), digits(mark), digits(since), digits(now), digits(math.max(0, bytes - start)), id }
end
