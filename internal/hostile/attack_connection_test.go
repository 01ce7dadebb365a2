package hostile

import (
	"context"
	"io"
	"net"
	"strings"
	"time"
)

// head begins a token request.
const head = "POST /connect/token HTTP/1.1\r\nHost: provider.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"

const plainGet = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: provider.example\r\n\r\n"

// connectionScenarios hold connections and time.
func connectionScenarios() []scenario {
	return []scenario{
		{
			name: "slow headers", attack: "2,000 connections send a byte of a header each half second",
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, a.some(2000), func(ctx context.Context, c net.Conn) {
					a.drip(ctx, c, head+"X-Slow: "+strings.Repeat("a", 4000), 500*time.Millisecond)
				})
			},
		},
		{
			name: "slow bodies", attack: "2,000 connections send a byte of a body each half second",
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, a.some(2000), func(ctx context.Context, c net.Conn) {
					io.WriteString(c, head+"Content-Length: 4000\r\n\r\n")
					a.drip(ctx, c, strings.Repeat("a", 4000), 500*time.Millisecond)
				})
			},
		},
		{
			name: "slow readers", attack: "500 connections ask for more than they read",
			saturates: true,
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, a.some(500), func(ctx context.Context, c net.Conn) {
					for ctx.Err() == nil {
						c.SetWriteDeadline(time.Now().Add(time.Second))
						if _, err := io.WriteString(c, strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n", 50)); err != nil {
							break
						}
						a.count("requests written")
					}
					pause(ctx, time.Minute)
				})
			},
		},
		{
			name: "half-closed", attack: "1,000 connections close their half: before, within and behind a request",
			saturates: true,
			run: func(ctx context.Context, a *attacker) {
				texts := []string{"", "POST /conn", head + "Content-Length: 4000\r\n\r\ngrant_type=", plainGet}
				a.crowd(ctx, a.some(1000), func(ctx context.Context, c net.Conn) {
					text := texts[time.Now().UnixNano()/1000%int64(len(texts))]
					io.WriteString(c, text)
					if half, ok := c.(*net.TCPConn); ok {
						half.CloseWrite()
					}
					a.closed(ctx, c)
					pause(ctx, 10*time.Millisecond)
				})
			},
		},
		{
			name: "idle connections", attack: "10,000 connections do nothing, half of them behind a request",
			saturates: true,
			run: func(ctx context.Context, a *attacker) {
				slot := make(chan int, a.some(10000))
				for i := range cap(slot) {
					slot <- i
				}
				a.crowd(ctx, cap(slot), func(ctx context.Context, c net.Conn) {
					i := <-slot
					if i%2 == 0 {
						io.WriteString(c, plainGet)
					}
					if a.closed(ctx, c) {
						pause(ctx, time.Second)
					}
					slot <- i
				})
			},
		},
		{
			name: "descriptor limit", attack: "300 connections do nothing at a server that may have 256 descriptors",
			config: serverConfig{descriptors: 256},
			run: func(ctx context.Context, a *attacker) {
				a.crowd(ctx, 300, func(ctx context.Context, c net.Conn) {
					if a.closed(ctx, c) {
						pause(ctx, 200*time.Millisecond)
					}
				})
			},
		},
	}
}
