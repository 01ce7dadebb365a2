package state

import "errors"

func checkPostgresURL(string) error { return errors.New("PostgreSQL is not supported") }

func openPostgres(*Config) (backend, error) { return nil, errors.New("PostgreSQL is not supported") }
