package archtest

// table is the architecture: one row a package. A reader can see from it that
// only format/seal imports ciphers, that of the rest only image/ingest and
// read/view import format/seal, and that store and read/tier see sealed bytes
// alone.
var table = map[string]rule{
	"": {},
}
