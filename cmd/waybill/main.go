// Command waybill gives machines iSHARE access tokens, and checks them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Getenv, streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
