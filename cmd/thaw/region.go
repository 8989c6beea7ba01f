// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"os"
	"regexp"

	"thaw.dev/thaw"
	"thaw.dev/thaw/internal/sqlitedb"
)

// defaultRegion is the region of a data folder that was not given one.
const defaultRegion = "us-east-1"

// regionName is what a region is called in an ARN.
var regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+){1,2}-[0-9]$`)

//go:embed migrations/*.sql
var migrations embed.FS

// keepRegion takes the region from the data folder, which keeps the one of its
// first server: functions are known by ARNs that name it.
func (n *node) keepRegion(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := sqlitedb.Migrate(ctx, n.db, "server", files); err != nil {
		return err
	}
	var kept string
	err = n.db.QueryRowContext(ctx, "SELECT value FROM setting WHERE name = 'region'").Scan(&kept)
	asked, environment := n.cmd.Region, os.Getenv("AWS_REGION")
	switch {
	case errors.Is(err, sql.ErrNoRows):
		kept = cmp.Or(asked, environment, defaultRegion)
		if !regionName.MatchString(kept) {
			return thaw.Errorf("serve", thaw.Invalid, "the region %q (--region, AWS_REGION) is not like us-east-1", kept)
		}
		if _, err := n.db.ExecContext(ctx, "INSERT INTO setting (name, value) VALUES ('region', ?)", kept); err != nil {
			return err
		}
	case err != nil:
		return err
	case asked != "" && asked != kept:
		return thaw.Errorf("serve", thaw.Conflict,
			"--region %s: the data folder %s is of region %s, which the ARNs of its functions name: leave --region out, or use another folder", asked, n.cmd.Data, kept)
	case asked == "" && environment != "" && environment != kept:
		n.log.Warn("AWS_REGION differs from the region that the data folder keeps", "AWS_REGION", environment, "region", kept)
	}
	n.cmd.Region = kept
	return nil
}
