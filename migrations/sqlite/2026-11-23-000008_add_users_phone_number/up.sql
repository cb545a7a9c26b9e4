-- Nullable and without a default: the release before neither reads nor writes it, and no row has to be rewritten.
ALTER TABLE users ADD COLUMN phone_number TEXT;
