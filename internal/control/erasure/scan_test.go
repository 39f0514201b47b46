package erasure_test

import "database/sql"

func scanInt(rows *sql.Rows) (n int64, err error) { return n, rows.Scan(&n) }
