package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/explain"
)

// vectorFolder holds published iSHARE JWTs, where they are at hand.
const vectorFolder = "../../../shared/vectors"

// Each published JWT is judged, through the command, as the index says.
func TestExplainPublishedVectors(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(vectorFolder, "index.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the published vectors are not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Parties string
		Vectors []struct {
			File, At, Audience, Expect string
			Anchors                    []string
		}
	}
	if err := yaml.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Vectors) == 0 {
		t.Fatal("the index lists no vectors")
	}
	for _, v := range index.Vectors {
		t.Run(v.File+" expects "+v.Expect, func(t *testing.T) {
			args := []string{
				"explain", "--json", "--at", v.At, "--audience", v.Audience,
				"--parties", filepath.Join(vectorFolder, index.Parties),
			}
			for _, anchor := range v.Anchors {
				args = append(args, "--trust-anchor", filepath.Join(vectorFolder, anchor))
			}
			status, stdout, stderr := runCommand(t, "", append(args, filepath.Join(vectorFolder, v.File))...)
			var got explain.View
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("status %d, stdout %q, stderr %s: %v", status, stdout, stderr, err)
			}
			wantStatus, answer := statusNo, got.Rule
			if v.Expect == "accepted" {
				wantStatus, answer = statusDone, got.Verdict
			}
			if answer != v.Expect || status != wantStatus {
				t.Errorf("status %d, %s", status, stdout)
			}
		})
	}
}

// runCommand runs a command line in this process.
func runCommand(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	status = run(t.Context(), append([]string{"waybill"}, args...), os.Getenv, streams{strings.NewReader(stdin), &out, &errs})
	return status, out.String(), errs.String()
}
