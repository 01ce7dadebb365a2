package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
)

// controlFile is in the folder of a data space for as long as its sandbox runs.
const controlFile = "control.json"

// contact is what the control file says.
type contact struct {
	URL string `json:"url"`
}

// ErrNotRunning says that no sandbox runs in a folder.
var ErrNotRunning = errors.New("no sandbox is running there")

// A Remote is a sandbox that runs in another process on this machine.
type Remote struct {
	url    string
	client http.Client
}

// Find finds the sandbox that runs in a folder. The error wraps [ErrNotRunning]
// when there is none; one that was killed is missed only when it is asked.
func Find(dir string) (*Remote, error) {
	data, err := os.ReadFile(filepath.Join(dir, controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotRunning, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	var c contact
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("sandbox: %s: %w", filepath.Join(dir, controlFile), err)
	}
	// No proxy: it would be asked for an address of its own machine.
	return &Remote{url: c.URL, client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}, nil
}

// A refusedError is what the control API said in place of a state.
type refusedError struct {
	status      int
	description string
}

func (e *refusedError) Error() string { return e.description }

// Is tells the errors of [Sandbox.Set] by their status.
func (e *refusedError) Is(target error) bool {
	return target == ErrNoSwitch && e.status == http.StatusNotFound || target == ErrNoChoice && e.status == http.StatusBadRequest
}

// State tells how everything stands.
func (r *Remote) State(ctx context.Context) (*State, error) {
	return r.call(ctx, http.MethodGet, "/state", nil)
}

// Set is [Sandbox.Set], and tells how everything stands then.
func (r *Remote) Set(ctx context.Context, name, value string) (*State, error) {
	return r.call(ctx, http.MethodPut, "/switches/"+url.PathEscape(name), switchRequest{Value: value})
}

// Reset is [Sandbox.Reset], and tells how everything stands then.
func (r *Remote) Reset(ctx context.Context) (*State, error) {
	return r.call(ctx, http.MethodPost, "/reset", struct{}{})
}

// call asks the control API. The error wraps [ErrNotRunning] when nobody answers.
func (r *Remote) call(ctx context.Context, method, path string, content any) (*State, error) {
	body, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxState))
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Description string `json:"error_description"`
		}
		if err := json.Unmarshal(body, &refusal); err != nil || refusal.Description == "" {
			return nil, fmt.Errorf("sandbox: answered with status %d", response.StatusCode)
		}
		return nil, &refusedError{status: response.StatusCode, description: refusal.Description}
	}
	var state State
	if err := json.Unmarshal(body, &state); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return &state, nil
}
