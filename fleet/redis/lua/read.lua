-- ARGV: the generation after which to read, how many records at most, how many of them through this
-- script. There are fewer of long ones. Returns the state, records, and where there are more of them
-- up to which generation a range of the stream has no more than a megabyte, 0 otherwise.
local after, most, few, large = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13]), 1048576

local records, size, from = {}, 0, digits(after + 1) .. '-0'
while #records < few and size < large do
	local some = redis.call('XRANGE', log, from, digits(gen), 'COUNT', math.min(32, few - #records))
	for _, record in ipairs(some) do
		local _, _, _, length = read(record)
		records[#records + 1], size = record, size + length
	end
	if #some == 0 then
		break
	end
	from = '(' .. some[#some][1]
end

local function upTo()
	if #records < few then
		return 0
	end
	local first, _, start = read(records[1])
	local many = most
	while start and many > few do
		local next, at = redis.call('XRANGE', log, digits(first + many) .. '-0', '+', 'COUNT', 1)[1], bytes
		if next then
			_, _, at = read(next)
		end
		if at and at - start <= large then
			return first + many - 1
		end
		many = math.floor(many / 2)
	end
	return 0
end
return { state(), records, digits(upTo()) }
