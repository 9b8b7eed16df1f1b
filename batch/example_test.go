package batch_test

import (
	"fmt"

	"github.com/larder-cache/larder/batch"
)

// Two requests for one product each become one, and each gets its bytes of the answer.
func ExampleRule() {
	rule, err := batch.New(batch.Config{Path: "/products/{id}", URL: "/products?ids={ids}", Items: "products", ID: "id"})
	if err != nil {
		fmt.Println(err)
		return
	}
	var ids []string
	for _, path := range []string{"/products/7", "/products/8", "/about"} {
		id, fit := rule.ID(path)
		fmt.Printf("%s: %q, %s\n", path, id, fit)
		if id != "" {
			ids = append(ids, id)
		}
	}
	fmt.Println(rule.Target(ids))

	items, err := rule.Split([]byte(`{"products": [{"id": 8, "price": 2.50}, {"id": 7, "price": 1}]}`), ids)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, id := range ids {
		item, _ := items.Find(id)
		fmt.Printf("%s: %s\n", id, item)
	}
	// Output:
	// /products/7: "7", the id fits
	// /products/8: "8", the id fits
	// /about: "", the path is another
	// /products?ids=7,8
	// 7: {"id": 7, "price": 1}
	// 8: {"id": 8, "price": 2.50}
}
