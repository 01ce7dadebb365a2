package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	startTimeout = 2 * time.Minute // with a hundred thousand party records to read
	stopTimeout  = 10 * time.Second
	readyTimeout = 20 * time.Second // more than the 13 for which a store that is new vouches for nothing
	pollInterval = 10 * time.Millisecond
	maxReadiness = 64 << 10 // bytes
)

// A Child is a server that this program has started as another process of its own.
type Child struct {
	Address netip.AddrPort
	PID     int

	internal netip.AddrPort // zero: it has no other listener

	cancel context.CancelFunc
	ended  chan struct{}
}

// Start runs this program with arguments and an environment, and waits until the line "serving" is in its log, which is
// written to a file. It ends with ctx at the latest.
func Start(ctx context.Context, args, env []string, log string) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer file.Close() //nolint:errcheck // the child has its own
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // it is this program
	cmd.Args[0] = os.Args[0]                       // by which a program can tell which one it is
	cmd.Env, cmd.Stderr, cmd.SysProcAttr = env, file, new(syscall.SysProcAttr)
	endWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("bench: %w", err)
	}
	child := &Child{PID: cmd.Process.Pid, cancel: cancel, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its log says why
		close(child.ended)
	}()
	if err := child.serving(ctx, log); err != nil {
		child.Stop()
		return nil, err
	}
	return child, nil
}

// Stop ends the child and waits until it is gone.
func (c *Child) Stop() {
	c.cancel()
	<-c.ended
}

// serving waits until the log says where the child serves, and notes it.
func (c *Child) serving(ctx context.Context, log string) error {
	tick, late := time.NewTicker(pollInterval), time.After(startTimeout)
	defer tick.Stop()
	for gone := false; ; {
		text, err := os.ReadFile(log)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		for line := range bytes.Lines(text) {
			var event struct {
				Msg      string         `json:"msg"`
				Public   netip.AddrPort `json:"public"`
				Internal netip.AddrPort `json:"internal"`
			}
			if json.Unmarshal(line, &event) == nil && event.Msg == "serving" {
				c.Address, c.internal = event.Public, event.Internal
				return nil
			}
		}
		if gone {
			return fmt.Errorf("bench: the server does not start: %s", bytes.TrimSpace(text))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return errors.New("bench: the server takes too long to start")
		case <-c.ended:
			gone = true // once its last words are read
		}
	}
}

// ready waits until /readyz at an address is 200, unless the server has ended. The error says what it said last, after the time.
func ready(ctx context.Context, address string, ended <-chan struct{}, timeout time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	said := "nothing"
	for {
		status, body, err := readiness(limited, address)
		if err == nil && status == http.StatusOK {
			return nil
		}
		if err == nil {
			said = fmt.Sprintf("%d %s", status, bytes.TrimSpace(body))
		}
		select {
		case <-tick.C:
		case <-ended:
			return errors.New("bench: the server has ended before it was ready")
		case <-limited.Done():
			if err := ctx.Err(); err != nil {
				return err
			}
			return fmt.Errorf("bench: the server is not ready after %v; /readyz says %s", timeout, said)
		}
	}
}

func readiness(ctx context.Context, address string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return 0, nil, err
	}
	answer, err := (&http.Client{Timeout: time.Second}).Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxReadiness))
	return answer.StatusCode, body, err
}
