-- Have a step wait no more. KEYS: six for each rate. ARGV: waiting step, then for each rate as in take_call.lua.
for _, rate in ipairs(rates_of(2)) do
  leave(rate, ARGV[1])
end
return 'ok'
