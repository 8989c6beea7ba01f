-- Functions. The record is JSON (type Function); what queries need stands
-- beside it. preparing is 1 while an image is being prepared for the function,
-- so that a restart finds the work that was cut off.
CREATE TABLE control_function (
	tenant    TEXT    NOT NULL,
	name      TEXT    NOT NULL,
	preparing INTEGER NOT NULL CHECK (preparing IN (0, 1)),
	record    TEXT    NOT NULL,
	PRIMARY KEY (tenant, name)
) STRICT;

CREATE INDEX control_function_preparing ON control_function (tenant, name) WHERE preparing = 1;
