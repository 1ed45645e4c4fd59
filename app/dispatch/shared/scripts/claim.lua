-- Take a turn for the first of the places that are kept, or go on with a claim that has become old.
begin()
if asked.renew then
  renew()
else
  take_turn(drop_the_dead())
end
return tell()
