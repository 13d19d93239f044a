// Asks for tokens as an ordinary program with azidentity: one JSON order a line in, one JSON answer a line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

type order struct {
	TenantID  string `json:"tenantId"`
	ClientID  string `json:"clientId"`
	TokenFile string `json:"tokenFile"`
	Scope     string `json:"scope"`
	Retries   int32  `json:"retries"`
	Discovery bool   `json:"discovery"`
	Managed   bool   `json:"managed"`
	Default   bool   `json:"default"`
}

type answer struct {
	Token       string  `json:"token,omitempty"`
	Expires     float64 `json:"expires,omitempty"`
	Error       string  `json:"error,omitempty"`
	Codes       []int   `json:"codes"`
	Correlation string  `json:"correlation,omitempty"`
}

// refusal is what Entra's error document holds for programs.
type refusal struct {
	Codes       []int  `json:"error_codes"`
	Correlation string `json:"correlation_id"`
}

func ask(given order) (azcore.AccessToken, error) {
	request := policy.TokenRequestOptions{Scopes: []string{given.Scope}}
	if given.Managed || given.Default {
		credential, err := withoutToken(given)
		if err != nil {
			return azcore.AccessToken{}, err
		}
		return credential.GetToken(context.Background(), request)
	}
	retries := given.Retries
	if retries == 0 {
		retries = -1 // azcore: none
	}
	options := azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions:            azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: retries, RetryDelay: time.Millisecond}},
		ClientID:                 given.ClientID,
		TenantID:                 given.TenantID,
		TokenFilePath:            given.TokenFile,
		DisableInstanceDiscovery: !given.Discovery,
	}
	credential, err := azidentity.NewWorkloadIdentityCredential(&options)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return credential.GetToken(context.Background(), request)
}

// withoutToken is for a program that knows the metadata service only.
func withoutToken(given order) (azcore.TokenCredential, error) {
	if given.Default {
		return azidentity.NewDefaultAzureCredential(nil)
	}
	options := azidentity.ManagedIdentityCredentialOptions{}
	if given.ClientID != "" {
		options.ID = azidentity.ClientID(given.ClientID)
	}
	return azidentity.NewManagedIdentityCredential(&options)
}

func explain(err error) answer {
	found := answer{Error: err.Error(), Codes: []int{}}
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		body, _ := io.ReadAll(failed.RawResponse.Body)
		var document refusal
		if json.Unmarshal(body, &document) == nil {
			found.Codes, found.Correlation = document.Codes, document.Correlation
		}
	}
	return found
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var given order
		if err := json.Unmarshal(lines.Bytes(), &given); err != nil {
			panic(err)
		}
		token, err := ask(given)
		found := answer{Token: token.Token, Expires: float64(token.ExpiresOn.Unix()), Codes: []int{}}
		if err != nil {
			found = explain(err)
		}
		if err := encoder.Encode(found); err != nil {
			panic(err)
		}
	}
}
