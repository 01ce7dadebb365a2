package revocation

import (
	"context"

	"github.com/waybill-token/waybill/trust"
)

// Off asks nobody whether a certificate is revoked. It is for test set-ups and
// for deployments that check elsewhere, and has to be chosen by name.
type Off struct{}

// Check returns nil.
func (Off) Check(context.Context, *trust.Chain) error { return nil }
