# Saves typing. What a change must pass is .ci/run.

# The packages that decide. The others are slower, as they start servers and whole data spaces.
decide = ./ishare ./rule ./jws ./trust ./revocation ./replay ./accesstoken ./assertion ./tokenendpoint ./guard/... ./client ./capabilities

.PHONY: build quick test lint docs pictures all
build:
	go build -o waybill ./cmd/waybill
quick:
	go vet ./...
	go test $(decide)
test:
	go test ./...
lint:
	golangci-lint run ./...
docs: # the pages that are made of the code
	go test ./rule -run TestRulesDocument -update
	go test ./cmd/waybill -run TestReference -update
pictures: # of the pages; look at them before you commit them
	go test ./assertion -run TestWalkIsDrawn -update
	go test ./cmd/waybill -run TestExplainIsPictured -update
	go test ./internal/console -run TestInChromium -update
all:
	.ci/run
