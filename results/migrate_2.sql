-- migrate_2.sql - version 1 to 2: why a sample got its scores.

ALTER TABLE sample ADD COLUMN rule TEXT;    -- which rule found the answer in the output
ALTER TABLE sample ADD COLUMN reason TEXT;  -- why the score is what it is
