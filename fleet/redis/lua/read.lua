-- ARGV: the generation after which to read, how many records at most. There are fewer of long ones.
local from, most, records, size = digits(tonumber(ARGV[11]) + 1) .. '-0', tonumber(ARGV[12]), {}, 0
while #records < most and size < 1048576 do
	local some = redis.call('XRANGE', log, from, digits(gen), 'COUNT', math.min(32, most - #records))
	for _, record in ipairs(some) do
		local _, _, _, length = read(record)
		records[#records + 1], size = record, size + length
	end
	if #some == 0 then
		break
	end
	from = '(' .. some[#some][1]
end
return { state(), records }
