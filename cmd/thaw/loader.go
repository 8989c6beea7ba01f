package main

import (
	"context"
	"os"

	"thaw.dev/thaw/read/holder"
	"thaw.dev/thaw/read/loader"
)
